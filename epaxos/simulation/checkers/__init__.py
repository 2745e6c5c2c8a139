"""What must hold, judged from outside: by what replicas make durable, send, execute and answer."""
