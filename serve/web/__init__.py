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
    browsers  the names that the service answers to, and whose pages may call it
    problems  errors as problem details
    document  the OpenAPI document
    draining  no new requests when the service ends
    page      the page, page_files/, and its content security policy
    api_page  the page of the OpenAPI document
"""
