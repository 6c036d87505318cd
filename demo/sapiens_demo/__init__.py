"""`sapiens demo`: a page on this machine that asks a server about pictures and videos."""
