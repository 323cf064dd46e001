"""The image service's REST API, one module per resource."""
