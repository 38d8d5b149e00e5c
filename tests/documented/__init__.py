"""Finds every command that we write, in pages, help texts and messages, and tries each of them."""
