"""Durable acceptor state behind one small interface."""
