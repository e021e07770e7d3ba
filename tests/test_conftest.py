"""What conftest.py promises every test is kept."""

from __future__ import annotations

import socket
import warnings

import pytest


def test_another_machine_cannot_be_reached():
    with pytest.raises(RuntimeError, match=r"192\.0\.2\.1"), socket.socket() as client:
        client.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match=r"example\.org"):
        socket.getaddrinfo("example.org", 443)


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_warnings_are_errors():
    with pytest.raises(UserWarning):
        warnings.warn("seen", stacklevel=1)


def test_a_package_can_be_taken_away(python_without):
    gone = python_without(["numpy"], "import importlib.util; print(importlib.util.find_spec('numpy'))\nimport numpy")
    assert gone.stdout == "None\n"
    assert "ModuleNotFoundError: No module named 'numpy'" in gone.stderr
    assert python_without(["torch"], "import numpy").returncode == 0
