"""What a registry has, over the API."""

import base64
import json

from cellbox.errors import NotFound
from cellbox.model.image import OCI_MANIFEST, Descriptor, Platform
from cellbox.model.registry import Credential, Distribution

FOUND = Distribution(Descriptor(OCI_MANIFEST, "sha256:" + "1" * 64, 500), (Platform(),))


def test_descriptor_and_platforms(ask, scripted):
    scripted.images.answers["distribution"] = FOUND
    header = base64.urlsafe_b64encode(json.dumps({"username": "ada", "password": "x"}).encode())
    answer = ask("GET", "/distribution/r:5000/lab/x:1/json", X_Registry_Auth=header.decode())
    assert answer.json == {
        "Descriptor": {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "1" * 64, "size": 500},
        "Platforms": [{"architecture": "amd64", "os": "linux"}],
    }
    asked = {"auth": Credential("ada", "x")}
    assert scripted.images.calls == [("distribution", "r:5000/lab/x:1", asked)]


def test_what_is_not_there(ask, scripted):
    scripted.images.answers["distribution"] = NotFound("image", "x:1")
    assert ask("GET", "/distribution/x:1/json").status == 404
