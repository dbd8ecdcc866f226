"""Conversion between Chat Completions and OpenAI's Responses API (`POST /v1/responses`).

Newer models need the Responses API for tools together with reasoning. The modules convert:

- request: a Chat Completions request to a Responses request;
- stream: the events of a Responses stream to chunks, and a response to a completion;
- reasoning: reasoning items to `reasoning_details`, and back for the next request;
- refusals: the field names in refusals to those of Chat Completions.

Source: platform.openai.com/docs/api-reference/responses and the types of the `openai` package
(3.51); the tests check the results against these types.
"""
