"""The HTTP interface in front of the service.

Modules:
    routes              the application, and its routes but for the stored ones
    example_routes      the routes of examples
    text_routes         the routes of texts that nobody labelled
    responses           the answers that routes may give, for the document
    service             what they ask: the backend that tags, and the store of examples
    schemas             requests, checked strictly
    example_schemas     those about examples and texts
    limits              what one request may ask for
    labelled_sentences  examples of requests
    imports             files of examples, read
    exports             files of examples, written
    texts               texts that nobody labelled
    text_labelling      they are labelled, by the request or later
    repeats             requests that come again
    lines               NDJSON in and out
    envelope            what is done for every request: id, bound, count, log line
    auth                bearer tokens
    rates               who asks, and how much a client may ask for
    gate                what is checked before a body is read
    browsers            the names that the service answers to, and whose pages may call it
    problems            errors as problem details
    document            the OpenAPI document
    draining            no new requests when the service ends
    page                the page, page.html, and its content security policy
    api_page            the page of the OpenAPI document
"""
