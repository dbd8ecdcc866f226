"""The system prompt's place; most of it is in tests/cases/refusals."""

from anthropic_proxy.translate.request.system_prompt import (
    append_system_text,
    merge_system_into_user,
)


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


def test_contents_with_parts_become_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    changed = merge_system_into_user(
        [{"role": "system", "content": "S"}, {"role": "user", "content": [image]}]
    )
    assert changed == [{"role": "user", "content": [{"type": "text", "text": "S"}, image]}]


def test_a_system_message_before_the_assistant_becomes_the_users() -> None:
    assistant = {"role": "assistant", "content": "A"}
    assert merge_system_into_user([{"role": "system", "content": "S"}, assistant]) == [
        {"role": "user", "content": "S"},
        assistant,
    ]


def test_the_system_prompt_is_extended_or_added() -> None:
    user = {"role": "user", "content": "Hi"}
    assert append_system_text([user], "T") == [{"role": "system", "content": "T"}, user]
    assert append_system_text([{"role": "system", "content": "S"}, user], "T") == [
        {"role": "system", "content": "S\n\nT"},
        user,
    ]
