"""The model is the named one, the only one, or the one that the user chooses from a list."""

import pytest
from click.testing import CliRunner

from anthropic_proxy.cli.launch import model_choice
from anthropic_proxy.cli.launch.model_choice import ChoiceError, choose_model

_MANY = [f"vendor/model-{number}" for number in range(100)]


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["a"], None, "a"),
        (["a", "b"], "b", "b"),
        (["a", "b"], "other", "other"),
        ([], "other", "other"),
        # several upstreams, and the name without its upstream
        (["ollama/qwen3:4b", "openai/gpt-5"], "qwen3:4b", "ollama/qwen3:4b"),
        (["a/m", "b/m"], "m", "m"),
    ],
)
def test_a_model_is_chosen_without_a_question(
    names: list[str], wanted: str | None, expected: str
) -> None:
    assert choose_model(names, wanted, is_interactive=True) == expected


@pytest.mark.parametrize(
    ("names", "is_interactive", "reason"),
    [
        ([], True, "the upstream has no models: install one, or name one with --model"),
        (["a", "b"], False, "choose a model with --model: a, b"),
        (_MANY, False, f"choose a model with --model: {', '.join(_MANY[:20])}, ... (100 models)"),
    ],
)
def test_a_choice_may_be_impossible(names: list[str], reason: str, *, is_interactive: bool) -> None:
    with pytest.raises(ChoiceError) as caught:
        choose_model(names, None, is_interactive=is_interactive)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("names", "wanted", "warning"),
    [
        (["qwen3:4b", "gemma3:4b"], "qwen3:8b", "did you mean qwen3:4b"),
        (["vendor/qwen3-coder", "b"], "QWEN3", "did you mean vendor/qwen3-coder?"),
        (["a", "b"], "other", "! the upstream does not list the model other\n"),
        ([], "other", ""),
        (["a"], "a", ""),
    ],
)
def test_an_unlisted_model_is_reported(
    capsys: pytest.CaptureFixture[str], names: list[str], wanted: str, warning: str
) -> None:
    assert choose_model(names, wanted, is_interactive=False) == wanted
    output = capsys.readouterr().err
    assert (warning in output) if warning else not output


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["a", "b"], "2\n", "b"),
        (["a", "b"], "b\n", "b"),
        (["a", "b"], "3\nx\n0\n-1\n1\n", "a"),
        # A number beyond the models that are shown is a part of a name.
        (_MANY, "21\n", "vendor/model-21"),
        (_MANY, "MODEL-9\n2\n", "vendor/model-90"),
        (["12", "1"], "12\n", "12"),
    ],
)
def test_the_user_chooses_by_number_or_name(names: list[str], text: str, expected: str) -> None:
    with CliRunner().isolation(input=text) as (_, errors, _):
        assert choose_model(names, None, is_interactive=True) == expected
        shown = errors.getvalue().decode()
    assert "Model (number, or a part of its name): " in shown
    assert shown.count("\n") < len(text) * (model_choice._SHOWN_MODELS + 4)
