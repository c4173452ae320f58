import pytest

from steps.core.system.secrets import holds_secret, mask


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:hunter22@host/x", "https://host/x.csv?sig=abc", "https://host/x?X-Amz-Signature=1",
        "s3://KEY:SECRET@bucket/x", "https://host/x?a=1&access_token=t", "https://host/x?api_key=t",
    ],
)  # fmt: skip
def test_a_url_with_a_password_or_a_key_is_known(url: str) -> None:
    assert holds_secret(url)


@pytest.mark.parametrize(
    "url",
    [
        "data/demo",
        "hub:name",
        "s3://bucket/token/x",
        "ftp://me@host/x",
        "https://host/x?page=2&design=3",
        "C:/a?sig=1",
    ],
)
def test_a_url_without_is_let_through(url: str) -> None:
    assert not holds_secret(url)


def test_what_is_secret_is_hidden_and_the_rest_is_left() -> None:
    environment = {
        "AWS_SECRET_ACCESS_KEY": "canary-aws",
        "HEADSTART_STUDY_STORAGE": "postgresql://me:canary-pg@host/db",
        "MLFLOW_TRACKING_PASSWORD": "canary-ml",
        "HEADSTART_SERVE_TOKEN": "canary-serve",
        "PATH": "/usr/bin",
        "SHORT_TOKEN": "yes",
    }
    text = "yes: canary-pg canary-aws canary-ml canary-serve at http://a:b-c@host/x?sig=zz&n=1 in /usr/bin"
    assert mask(text, environment) == "yes: *** *** *** *** at http://a:***@host/x?sig=***&n=1 in /usr/bin"
