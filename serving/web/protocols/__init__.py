"""The protocols that clients speak: each turns a body into rows and predictions into a body, and knows nothing else.

`decode(request, layout, max_rows)` gives a Decoded, whose `encode(predictions, version)` makes the answer's body.
"""
