"""`python -m skywire_apps.chat`."""

from __future__ import annotations

from skywire_apps.chat.command import main

main()
