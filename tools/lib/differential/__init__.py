"""The same random commands to our Redis door and to Redis itself, and what each of them answers."""
