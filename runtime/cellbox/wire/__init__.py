"""Docker's shapes and ours: pure functions between the model and the Engine API's JSON.

``objects`` tells containers and images as ``docker inspect`` does.
"""
