"""How fast this machine seals as the project does, from Python into a buffer that is there: ChaCha20-Poly1305."""

from __future__ import annotations

import os
import time

from skywire_common.noise import TAG_SIZE, Cipher


def seals_per_second(size: int, seconds: float) -> float:
    """Seal `size` bytes again and again."""
    cipher, plain, out = Cipher(os.urandom(32)), os.urandom(size), memoryview(bytearray(size + TAG_SIZE))
    began, counter = time.perf_counter(), 0
    while True:
        for _ in range(200):
            cipher.seal_into(counter, plain, out)
            counter += 1
        passed = time.perf_counter() - began
        if passed >= seconds:
            return counter / passed
