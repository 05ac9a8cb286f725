"""What the operator's tests share."""

pytest_plugins = ["support.api_server"]
