"""The HTTP interface in front of the service.

Modules:
    routes    the routes, and who may use them
    service   what they ask: the backend that tags, and the store of examples
    schemas   requests, checked strictly
    limits    what one request may ask for
    imports   files of examples
    texts     texts that nobody labelled
    lines     NDJSON in and out
    envelope  what is done for every request: id, bound, count, log line
    auth      bearer tokens
    gate      what is checked before a body is read
    problems  errors as problem details
    document  the OpenAPI document
    page      the page, page.html, and its content security policy
"""
