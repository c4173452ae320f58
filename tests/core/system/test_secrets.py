from pathlib import Path

import pytest

from steps.core.system.secrets import holds_secret, mask, mask_error


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:hunter22@host/x", "https://host/x.csv?sig=abc", "https://host/x?X-Amz-Signature=1",
        "s3://KEY:SECRET@bucket/x", "https://host/x?a=1&access_token=t", "https://host/x?api_key=t",
        "http://SECRET@host/x", "http://u:p@ss@host/x", "ftp://me@host/x", "https://host/x?key=1",
        "https://host/x?%6bey=1", "https://host/x#token=t", "https://host/x?a;auth=t", "zip://a::http://S@h/b",
        "abfs://container:SECRET@account/x", "https://host/x?AWSAccessKeyId=1&Signature=t",
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
        "abfs://container@account.dfs.core.windows.net/x",
        "https://host/a@b/x?keyboard=1&author=2",
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://SECRET@host/x", "at http://***@host/x"),
        ("at http://u:p@ss@host/x", "at http://u:***@host/x"),
        ("x?key=abc&n=1", "x?key=***&n=1"),
        ("x#auth=abc", "x#auth=***"),
        ("abfs://data@account/x", "abfs://data@account/x"),
    ],
)
def test_every_form_of_a_secret_in_a_url_is_hidden(text: str, shown: str) -> None:
    assert mask(text, {}) == shown


def test_the_path_of_a_file_or_folder_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    environment = {
        "PWD": str(tmp_path),
        "OLDPWD": "/",
        "MY_CREDENTIAL": f"{tmp_path}/key.json",
        "MY_TOKEN": "/no/such/file",
    }
    text = f"see {tmp_path}/logs/run.log and /no/such/file"
    assert mask(text, environment) == f"see {tmp_path}/logs/run.log and ***"


def test_an_error_is_masked_with_all_that_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:canary-ml@host:5000")

    def fail() -> None:
        try:
            try:
                raise KeyError("canary-ml inside")
            except KeyError:
                raise ValueError("http://me:canary-ml@host refused") from None
        except ValueError as error:
            raise RuntimeError("cannot ask", "http://me:canary-ml@host", 3) from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    caught.value.message = "canary-ml"  # type: ignore[attr-defined]
    mask_error(caught.value)
    cause = caught.value.__cause__
    assert cause is not None
    for error in (caught.value, cause, cause.__context__):
        assert "canary" not in repr(error)
        assert "***" in repr(error)
    assert caught.value.args == ("cannot ask", "http://me:***@host", 3)
    assert caught.value.message == "***"  # type: ignore[attr-defined]
