"""Consent to a licence."""

import json

import pytest

from sapiens_export.weights.licences import (
    NOTICE_FILE,
    accept,
    accepted_licences_file,
    is_accepted,
    require_licence,
    write_notice,
)

LICENCE = "CC-BY-NC-4.0"
SOURCE = "facebook/sapiens-depth-0.3b"

pytestmark = pytest.mark.usefixtures("config_folder")


def refuse_to_be_asked(question):
    raise AssertionError(question)


def test_consent_is_kept_for_the_next_time():
    assert not is_accepted(LICENCE)
    accept(LICENCE)
    accept("Apache-2.0")
    accept(LICENCE)
    assert is_accepted(LICENCE)
    assert json.loads(accepted_licences_file().read_text()) == ["Apache-2.0", LICENCE]


def test_consent_is_kept_where_the_user_s_settings_are(config_folder, tmp_path, monkeypatch):
    assert accepted_licences_file() == config_folder / "sapiens" / "accepted_licences.json"
    for folder in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", folder)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert accepted_licences_file() == tmp_path / ".config" / "sapiens" / "accepted_licences.json"


def test_nothing_but_the_list_stays_in_the_folder():
    accept(LICENCE)
    assert [path.name for path in accepted_licences_file().parent.iterdir()] == ["accepted_licences.json"]


def test_without_consent_the_way_to_give_it_is_told():
    with pytest.raises(ValueError, match=r"from facebook/sapiens-depth-0.3b is CC-BY-NC-4.0") as error:
        require_licence(LICENCE, SOURCE)
    assert "not for commercial use" in str(error.value)
    assert "https://creativecommons.org/licenses/by-nc/4.0/" in str(error.value)
    assert "pass --accept-licence" in str(error.value)
    assert not is_accepted(LICENCE)


def test_the_option_is_needed_once():
    require_licence(LICENCE, SOURCE, accepted=True, ask=refuse_to_be_asked)
    require_licence(LICENCE, "facebook/sapiens-seg-1b", ask=refuse_to_be_asked)


def test_who_is_asked_sees_the_terms_and_the_source():
    questions = []
    require_licence(LICENCE, SOURCE, ask=lambda question: bool(questions.append(question)) or True)
    (question,) = questions
    for words in (LICENCE, "not for commercial use", SOURCE, "Do you accept it?"):
        assert words in question
    assert is_accepted(LICENCE)


def test_no_is_an_answer():
    with pytest.raises(ValueError, match="must be accepted before they are downloaded"):
        require_licence(LICENCE, SOURCE, ask=lambda _question: False)
    assert not is_accepted(LICENCE)


def test_consent_to_an_unstated_licence_is_for_one_source():
    with pytest.raises(ValueError, match="'not stated': find out at the source"):
        require_licence("not stated", "somebody/weights")
    require_licence("not stated", "somebody/weights", accepted=True)
    require_licence("not stated", "somebody/weights")
    with pytest.raises(ValueError, match="somebody/else"):
        require_licence("not stated", "somebody/else")


@pytest.mark.parametrize("text", ["{", '"CC-BY-NC-4.0"', "\udcff"], ids=["broken", "no list", "no text"])
def test_a_damaged_list_is_no_consent(text):
    path = accepted_licences_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"accepted_licences.json must be a JSON list .*; delete it"):
        require_licence(LICENCE, SOURCE, accepted=True)


def test_consent_that_cannot_be_kept_counts_this_once(config_folder):
    config_folder.write_text("a file where the folder should be")
    require_licence(LICENCE, SOURCE, accepted=True)
    assert not is_accepted(LICENCE)


def test_the_uses_that_the_second_familys_licence_forbids_are_shown():
    with pytest.raises(ValueError, match="from facebook/sapiens2-seg-1b is Sapiens2") as error:
        require_licence("Sapiens2", "facebook/sapiens2-seg-1b")
    for words in ("surveillance", "biometric", "deepfakes", "military", "copy of the text"):
        assert words in str(error.value)


def test_what_binds_lies_beside_an_engine(tmp_path):
    write_notice(tmp_path, "Sapiens2")
    notice = (tmp_path / NOTICE_FILE).read_text()
    for words in (
        "licensed under Sapiens2",
        "deepfakes",
        "sapiens2/blob/main/LICENSE.md",
        "Put a copy of it here",
    ):
        assert words in notice


def test_weights_of_no_known_licence_have_no_summary_beside_them(tmp_path):
    for licence in ("unknown", "none: random weights", "not stated"):
        write_notice(tmp_path, licence)
    assert list(tmp_path.iterdir()) == []
