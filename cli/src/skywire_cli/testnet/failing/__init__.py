"""Failures on purpose: what they are (profiles), how they are brought about on processes (breaking), and the tools for
that, which containers use as well (cable, dawdling, filling, skewed: `skywire testnet inflict`).
"""
