"""``abpn-retouch --sign``."""

import pytest
from abpn.cli import retouch
from retouch_common.testing.credentials_contract import CredentialsContract


class TestCredentials(CredentialsContract):
    package, command = "abpn", retouch

    @pytest.fixture
    def options(self, weights):
        return ["--weights", weights, "--no-confine"]
