"""`skywire app-conformance`: plays the node to an app in any language, and says case by case what holds."""
