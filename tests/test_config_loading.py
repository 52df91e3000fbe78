"""Files and overrides: what is accepted, what is refused, and that messages name the place and the fix."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metacross.config import Config, dotted
from metacross.config_loading import default_path, load_config
from metacross.errors import UserError

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "ray_config.yaml"


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def refused(path: Path | None = None, *overrides: str) -> str:
    """The message with which a file or overrides are refused."""
    with pytest.raises(UserError) as caught:
        load_config([path] if path else None, overrides)
    return str(caught.value)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "partial.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def value(override: str) -> Any:
    """What an override's key holds afterwards."""
    return dotted(load_config(None, [override]))[override.partition("=")[0]]


# --- merging ---


def test_the_shipped_file_is_read_as_it_stands():
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert load_config().model_dump() == shipped


def test_later_sources_win_and_leave_the_rest_alone(tmp_path: Path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("train: {lr: 0.5, steps: 7}\ndata:\n  tag_map: {OTH: O}\n")
    second.write_text("train: {lr: 0.25}\ndata:\n  tag_map: {PERSON: PER}\n")
    merged = load_config([SHIPPED, first, second], ["train.seed=1"])
    expected = dotted(load_config())
    expected |= {"train.lr": 0.25, "train.steps": 7, "train.seed": 1, "data.tag_map": {"PERSON": "PER"}}
    assert dotted(merged) == expected


def test_the_last_of_two_overrides_wins():
    assert load_config(None, ["train.steps=5", "train.steps=6"]).train.steps == 6


def test_dotted_keys_are_read_from_files_too(tmp_path: Path):
    assert load_config([written(tmp_path, "train.steps: 9\n")]).train.steps == 9


def test_the_current_directorys_file_comes_before_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert default_path() == SHIPPED
    (tmp_path / "ray_config.yaml").write_text(load_config(None, ["train.steps=11"]).to_yaml())
    assert load_config().train.steps == 11


def test_without_a_default_file_given_files_must_be_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    complete = load_config(None, ["train.steps=12"])
    monkeypatch.setattr("metacross.config_loading.default_path", lambda: None)
    assert load_config([written(tmp_path, complete.to_yaml())]) == complete
    assert "No value for data.source, " in refused(written(tmp_path, "train: {steps: 3}\n"))
    assert "--config" in refused()


def test_a_bundle_without_a_newer_setting_takes_it_from_the_default_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = load_config(None, ["train.lr=0.5"]).to_yaml()
    older = written(tmp_path, "".join(line for line in whole.splitlines(True) if "clip_norm" not in line))
    (tmp_path / "ray_config.yaml").write_text("train: {clip_norm: 7.5, lr: 0.25}\n")
    monkeypatch.chdir(tmp_path)
    found = load_config([older], alone=True)
    assert (found.train.clip_norm, found.train.lr) == (7.5, 0.5)
    (tmp_path / "ray_config.yaml").write_text("broken: [")
    assert load_config([written(tmp_path, whole)], alone=True).train.lr == 0.5, "nothing missing: not even looked at"


def test_a_run_from_before_the_later_pieces_goes_on_without_them(tmp_path: Path):
    whole = load_config(None, ["loss.later_weight=0.3"]).to_yaml()
    older = written(tmp_path, "".join(line for line in whole.splitlines(True) if "later_weight" not in line))
    assert load_config([older], alone=True).loss.later_weight == 0
    assert load_config([older]).loss.later_weight == load_config().loss.later_weight


def test_a_setting_of_an_earlier_version_means_nothing_in_a_bundle_and_is_refused_elsewhere(tmp_path: Path) -> None:
    older = written(tmp_path, load_config().to_yaml().replace("adopt:\n", "adopt:\n  quantile: 0.3\n"))
    assert load_config([older], alone=True) == load_config()
    for wrong in (lambda: load_config([older]), lambda: load_config([older], ["adopt.quantile=0.2"], alone=True)):
        with pytest.raises(UserError, match=r"adopt\.quantile \(.*\) is no longer a setting: labels are judged by"):
            wrong()


# --- values ---


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr=1e-4", 1e-4),
        ("train.lr=1E5", 1e5),
        ("train.lr=.5", 0.5),
        ("train.lr=3", 3.0),
        ("train.steps=010", 10),
        ("train.use_gpu=auto", "auto"),
        ("train.use_gpu=true", True),
        ("train.mlflow_uri=", ""),
        ("train.mlflow_uri=http://host:5000/at", "http://host:5000/at"),
        ("train.mlflow_uri=sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("inner.second_order=True", True),
        ("data.tag_map={OTH: O}", {"OTH": "O"}),
        (
            "data.tag_map={NO: LOC, on: off, 1: y, null: PER, true: N}",
            dict(NO="LOC", on="off", null="PER", true="N") | {"1": "y"},
        ),
        ("data.tag_map={A: '1'}", {"A": "1"}),
        ("data.tag_map={}", {}),
        ("data.source=[a.conll, b.conll]", ["a.conll", "b.conll"]),
        ("data.source=a=b.conll", "a=b.conll"),
        ("data.source_language=no", "no"),
        ("train.storage_path=/a: b ", "/a: b "),
        ('train.storage_path="a b: "', "a b: "),
        ("train.storage_path='x'", "x"),
        ("train.name=1e-4", "1e-4"),
        ("train.name=", ""),
        ("train.precision=bf16", "bf16"),
    ],
)
def test_override(override: str, expected: Any):
    found = value(override)
    assert found == expected
    assert type(found) is type(expected)


def test_an_override_of_a_section_sets_its_keys():
    config = load_config(None, ["train={steps: 4, lr: 2e-1}"])
    assert (config.train.steps, config.train.lr) == (4, 0.2)


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("loss.mask_ratio=1.5", "a number from 0 to 1"),
        ("loss.mask_ratio=-1e-9", "a number from 0 to 1"),
        ("loss.mask_ratio=high", "a number from 0 to 1"),
        ("loss.mask_ratio=true", "a number from 0 to 1"),
        ("train.lr=0", "a number greater than 0"),
        ("train.lr=1e999", "a number greater than 0"),
        ("train.lr=nan", "a number greater than 0"),
        ("train.steps=0", "a whole number, 1 or more"),
        ("train.steps=1.0", "a whole number, 1 or more"),
        ("train.steps=", "a whole number, 1 or more"),
        ("train.steps=null", "a whole number, 1 or more"),
        ("model.frozen_layers=-1", "a whole number, 0 or more"),
        ("retrieval.layer=-1", "trunk, or a layer's number"),
        ("retrieval.layer=last", "trunk, or a layer's number"),
        ("train.seed=4294967296", "a whole number from 0 to 4294967295"),
        ("train.precision=fp16", "'auto', 'fp32' or 'bf16'"),
        ("train.use_gpu=1", "true, false or auto"),
        ("train.profile=10", "true or false"),
        ("train.mlflow_uri=localhost", "an MLflow tracking URI such as http://host:5000"),
        ("train.mlflow_uri=http://me:secret@host", "without name and password"),
        ("train.use_gpu=yes", "true, false or auto"),
        ("inner.second_order=yes", "true or false"),
        ("data.source=[]", "a file name or a list of file names"),
        ("data.source=[1]", "a file name or a list of file names"),
        ("data.source_language=english", "a language code"),
        ("data.tag_map={A: 1}", "needs quotes"),
        ("data.tag_map=OTH:O", "a mapping from type to type"),
        ("train.name=../elsewhere", "letters, digits"),
        ("train.name=..", "letters, digits"),
        ("model.encoder=", "text that is not empty"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(override: str, allowed: str):
    message = refused(None, override)
    assert message.startswith(override.partition("=")[0] + " is ")
    assert "(command line); it must be " in message
    assert allowed in message
    assert "\n" not in message


def test_every_wrong_value_is_told_with_its_line(tmp_path: Path):
    path = written(tmp_path, "train:\n  lr: fast\n  steps: 5\n\nloss:\n  mask_ratio: 2\n")
    message = refused(path, "train.workers=0")
    assert f'train.lr is "fast" ({path}:2); it must be a number greater than 0.' in message.splitlines()
    assert f"loss.mask_ratio is 2 ({path}:6); it must be a number from 0 to 1." in message.splitlines()
    workers = "it must be a whole number, 1 or more, or the fewest and the most, such as [2, 8]."
    assert f"train.workers is 0 (command line); {workers}" in message.splitlines()
    assert len(message.splitlines()) == 3


# --- unknown keys, broken files ---


@pytest.mark.parametrize(
    ("override", "name", "nearest"),
    [
        ("train.learning_rate=1", "train.learning_rate", "train."),
        ("train.wramup=1", "train.wramup", "train.warmup?"),
        ("trian.warmup=1", "trian.warmup", "train.warmup?"),
        ("lr=1", "lr", "inner.lr or train.lr or adopt.lr?"),
        ("data.tag_map.OTH=O", "data.tag_map.OTH", "data.tag_map?"),
        ("train={stpes: 1}", "train.stpes", "train.steps?"),
        ("train.=1", "train.", "train"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(override: str, name: str, nearest: str):
    message = refused(None, override)
    assert message.startswith(f"Unknown key {name} (command line). Did you mean {nearest}")


def test_an_unknown_key_in_a_file_is_refused_with_its_line(tmp_path: Path):
    path = written(tmp_path, "train:\n  steps: 5\n  wramup: 0.1\n")
    assert refused(path) == f"Unknown key train.wramup ({path}:3). Did you mean train.warmup?"
    path = written(tmp_path, "\ntrian: {steps: 5}\n")
    assert refused(path) == f"Unknown key trian ({path}:2). Did you mean train?"


@pytest.mark.parametrize("override", ["train.steps", "=5", " = 5"])
def test_an_override_without_key_or_value_is_refused(override: str):
    assert refused(None, override) == f"{override!r} on the command line is not key=value, as in train.steps=100."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "{path} is empty"),
        ("# nothing but this\n", "{path} is empty"),
        ("- train\n", "{path} must hold sections"),
        ("train\n", "{path} must hold sections"),
        ("train: 5\n", "train is a section ({path}:1)"),
        ("data: {}\ntrain:\n  # lr: 1\n", "train is a section ({path}:2)"),
        ("train:\n  lr: 1\n  steps: 2\n  lr: 3\n", "train.lr is given twice ({path}:2 and {path}:4)"),
        ("train: {lr: 1}\ndata: {}\ntrain: {steps: 1}\n", "train is given twice ({path}:1 and {path}:3)"),
        ("train: {lr: 1}\ntrain.lr: 1\n", "train.lr is given twice ({path}:1 and {path}:2)"),
        ("data:\n  tag_map:\n    A: B\n    A: C\n", "data.tag_map.A is given twice ({path}:3 and {path}:4)"),
        ("train:\n  lr: [1\n", "{path}, line 3: broken YAML"),
        ("train:\n\tlr: 1\n", "{path}, line 2: broken YAML"),
        ("train: {lr: 1}\n---\ntrain: {lr: 2}\n", "{path}, line 2: broken YAML"),
        ("train: {lr: *unknown}\n", "{path}, line 1: broken YAML"),
        ("train: {lr: \x01}\n", "{path}: broken YAML"),
        ("train: {lr: !!python/name:os.system ''}\n", "train.lr cannot be '' with the YAML tag"),
        ("train: {steps: !!int many}\n", "train.steps cannot be 'many'"),
        ("train: {[1]: 2}\n", "A key under train is not text ({path}:1)"),
        ("data: {tag_map: &a {A: *a}}\n", "nested too deeply"),
        ("data: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, text: str, expected: str):
    path = written(tmp_path, text)
    assert expected.format(path=path) in refused(path)


def test_an_unreadable_file_is_refused(tmp_path: Path):
    assert "nowhere.yaml does not exist" in refused(tmp_path / "nowhere.yaml")
    assert "cannot be read: Is a directory" in refused(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("model: {encoder: Köln}\n".encode("latin-1"))
    assert "is not UTF-8" in refused(latin)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    assert load_config([written(tmp_path, "\ufefftrain: {steps: 8}\n")]).train.steps == 8


def test_a_broken_override_is_refused():
    assert refused(None, "train.steps=[1").startswith("'train.steps=[1' on the command line, line 1: broken YAML")


# --- saving ---

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "no",
        "NO",
        "on",
        "1e-4",
        "1.5",
        "0x1F",
        "010",
        "1:30",
        "null",
        "~",
        "true",
        "2026-01-01",
        "<<",
        "=",
        ".inf",
        "a: b",
        "\x85",
        "\u2028x",
        "é\r\n",
    ]
)
FILLED = TEXT.filter(bool)


def read_back(config: Config, path: Path) -> Config:
    path.write_text(config.to_yaml(), encoding="utf-8")
    return load_config([path])


@given(FILLED, st.dictionaries(TEXT, TEXT, max_size=2))
def test_saved_text_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, text: str, tag_map: dict[str, str]):
    tree = load_config().model_dump()
    tree["model"]["encoder"] = text
    tree["data"] |= {"source": [text, "b"], "tag_map": tag_map}
    config = Config.model_validate(tree)
    assert read_back(config, tmp_path_factory.getbasetemp() / "saved.yaml") == config


@given(st.floats(0, exclude_min=True, allow_infinity=False), st.floats(0, 1), st.sampled_from([True, False, "auto"]))
def test_saved_numbers_are_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, lr: float, mask_ratio: float, use_gpu: bool | str
):
    tree = load_config().model_dump()
    tree["train"] |= {"lr": lr, "use_gpu": use_gpu}
    tree["loss"]["mask_ratio"] = mask_ratio
    config = Config.model_validate(tree)
    assert read_back(config, tmp_path_factory.getbasetemp() / "saved.yaml") == config


@given(st.text(max_size=30))
def test_no_override_is_met_with_anything_else_than_a_users_error(text: str):
    for override in (text, f"train.steps={text}", f"data.tag_map={text}", f"data={text}", f"model.encoder={text}"):
        try:
            load_config(None, [override])
        except UserError as error:
            assert str(error)
