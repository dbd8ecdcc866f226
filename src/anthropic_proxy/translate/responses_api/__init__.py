"""A bridge between Chat Completions and OpenAI's Responses API (`POST /v1/responses`), which newer models need for tools
together with reasoning.

Nothing of the translation is done twice: a Chat Completions request becomes a Responses request (request, items), the
events of a Responses stream become chunks of Chat Completions (events), and a whole answer becomes a whole answer
(answer). Reasoning travels as `reasoning_details` (details), and so comes back with the next request. What the API refuses
is told in Chat Completions' terms (refusals).

Source: platform.openai.com/docs/api-reference/responses and the types of the `openai` package (3.51); the tests check what
is built here against them.
"""
