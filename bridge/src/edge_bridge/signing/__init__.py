"""Signed work at the centre: the executor signs jobs; executor and keeper check what is stored of them."""
