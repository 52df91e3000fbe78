"""The HTTP interface: routes, limits, tokens, problems, the OpenAPI document and the page."""
