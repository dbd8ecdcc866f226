"""The system prompt's place; most of it is in tests/cases/refusals."""

from anthropic_proxy.translate.request.system_prompt import merge_system_into_user


def test_what_comes_last_is_a_message_of_its_own() -> None:
    roles = ["system", "system", "user", "assistant", "system"]
    changed = merge_system_into_user(
        [{"role": role, "content": str(place)} for place, role in enumerate(roles)]
    )
    assert [(each["role"], each["content"]) for each in changed] == [
        ("user", "0\n\n1\n\n2"),
        ("assistant", "3"),
        ("user", "4"),
    ]
