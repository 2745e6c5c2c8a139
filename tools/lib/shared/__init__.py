"""What several tools need: processes that end with them, replicas, figures."""
