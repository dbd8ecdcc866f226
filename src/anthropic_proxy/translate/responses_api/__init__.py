"""A bridge between Chat Completions and OpenAI's Responses API (`POST /v1/responses`).

Newer models need the Responses API for tools together with reasoning. A Chat Completions request
becomes a Responses request (request). The events of a Responses stream become Chat Completions
chunks, and a complete response becomes a completion (stream). Reasoning travels as
`reasoning_details` (reasoning) and returns with the next request. Refusals are mapped to Chat
Completions' field names (refusals).

Source: platform.openai.com/docs/api-reference/responses and the types of the `openai` package
(3.51); the tests check the results against them.
"""
