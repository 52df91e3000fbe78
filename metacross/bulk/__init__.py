"""Many sentences: read, tagged on all cores of this machine or of a cluster, and written in their order.

Modules:
    items      what is to be tagged, read an item at a time
    lines      what was found in items, as it is written
    processes  taggers in processes of their own on this machine
    on_ray     taggers on a cluster, which write a directory of parts
"""
