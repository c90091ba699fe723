"""One file per mechanism. Files are found, not listed: adding one needs no other edit."""
