"""One module per revision, `rev_<number>_<what>.py`; never changed once released."""
