"""The API over HTTP, under ``/v1``: what the clients of this package do, for every other language; `docs/http.md`."""
