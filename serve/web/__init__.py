"""The HTTP interface in front of the service.

Modules:
    routes              the application, its routes for tagging, and who may use them
    example_routes      the routes of stored examples
    text_routes         the routes of texts that nobody labelled
    service             what they ask: the backend that tags, and the store of examples
    schemas             requests, checked strictly
    example_schemas     those about stored examples and texts
    labelled_sentences  new and corrected examples as the store takes them
    limits              what one request may ask for
    imports             files of examples
    exports             examples as files
    texts               sentences of texts that nobody labelled
    text_labelling      texts that wait are labelled
    repeats             requests that may be sent again
    lines               NDJSON in and out
    envelope            what is done for every request: id, bound, count, log line
    auth                bearer tokens
    gate                what is checked before a body is read
    browsers            the names that the service answers to, and whose pages may call it
    problems            errors as problem details
    responses           the answers that routes may give, for the document
    document            the OpenAPI document
    draining            no new requests when the service ends
    page                the page, page_files/, and its content security policy
    api_page            the page of the OpenAPI document
"""
