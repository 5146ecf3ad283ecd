"""The `skywire` command and what it is made of."""

import gc

# Loading modules makes objects that stay: to look through them for garbage after every 700 is 5 % of a short command.
gc.set_threshold(20_000)
