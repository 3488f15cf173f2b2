"""The registry: where images come from, over HTTP (OCI distribution specification 1.1).

Everything a registry says is hostile input, and so is the network on the way. From the wire up:

* ``origins``   which URL may be followed from which, and with what (pure);
* ``retry``     how patient we are, and how a task is called off;
* ``transport`` the one seam to the network: a request, its redirects, its body, over urllib3;
* ``auth``      challenges and tokens; ``credentials`` what ``docker login`` left;
* ``config``    mirrors and insecure registries;
* ``client``    manifests, tags and blobs of one repository;
* ``download``  one blob into the store, resumed and verified; ``feed`` the unpacker beside it;
* ``target``    a repository that is written to; ``upload`` one blob to it, resumed;
* ``transfer``  a whole image: ``pull``; ``sending`` the other way: ``push``; ``together`` layers
  side by side.

A secret (password, token, the query of a signed URL) never becomes part of a message or a repr:
what a notebook prints is saved with it and shared.
"""
