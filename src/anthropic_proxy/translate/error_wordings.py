"""Recognize the subject of an error by its words and codes.

Servers have their own words for the same failure, and send it with different statuses. Each
function answers one question about a failure. `upstream_errors` maps the failure by the answers.
"""

import re

from anthropic_proxy.translate.upstream_failure import UpstreamFailure


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _get_text(failure: UpstreamFailure) -> str:
    """Return the text of an error with its code and type."""
    return f"{failure.stated_text} {failure.codes}"


# Credit and budgets that no retry restores. The texts and codes are of OpenRouter, DeepSeek, xAI,
# Anthropic, DashScope, OpenAI, Volcengine, Moonshot, MiniMax, LiteLLM, one-api and new-api.
_SPENT_CREDIT = _pattern(
    r"insufficient[ _](credits?|balance|funds|user_quota)"
    r"|balance is (too low|insufficient)"
    r"|n[o']t? (have )?(any |enough |sufficient )?(remaining )?credits?\b|out of credits?\b"
    r"|(used|spent) all .{0,60}credits?\b|credits?[ _](are |is |have been )?(exhausted|depleted)"
    r"|spend(ing)?[ _-]limit|arrearage|account is in good standing|account_?overdue"
    r"|overdue balance|billing_hard_limit|billing hard limit|billing_not_active"
    r"|exceeded_current_quota|no payment method"
    r"|free_?tier_?only|free tier .{0,60}exhausted|余额不足|欠费|额度不足|额度已用尽"
    # Anthropic's limit of a workspace, with status 400 (Tencent's gateway: of a key).
    r"|specified .{0,20}usage limits?|usage limit for this billing cycle"
    # LiteLLM, OpenRouter and new-api.
    r"|budget[ _](has been )?exceeded|exceeded ?budget|key limit exceeded"
    r"|pre_?consume_token_quota_failed"
)


def is_spent_credit(failure: UpstreamFailure) -> bool:
    """Return whether the account has no credit, or has reached its spend limit."""
    return failure.status == 402 or _SPENT_CREDIT.search(_get_text(failure)) is not None


_RATE_LIMIT = _pattern(
    r"\brate[ _-]?limit|\b(tokens|requests) per (min|sec|hour|day)|too many requests|throttl"
)
# Limits that Google, Kimi, GitHub and gateways report with status 403.
_FORBIDDEN_RATE = _pattern(
    r"quota|usage[ _]limit|rate_?limit|limit[ _](?:was |is |has been )?(?:exceeded|reached)"
)
_TOO_LARGE = _pattern(r"request too large")
# Limits of Ollama, OpenRouter (`free-models-per-day`) and Amazon Bedrock, without a delay.
_LONG_LIMIT = _pattern(
    r"\b(?:daily|weekly|monthly)\b.{0,40}\b(?:limit|quota)|\bper[ -](?:day|week|month)\b"
)


def is_rate_limit(failure: UpstreamFailure) -> bool:
    """Return whether a limit of a time or a quota is exceeded, although the status is not 429."""
    text = _get_text(failure)
    if _RATE_LIMIT.search(text):
        return True
    return failure.status == 403 and _FORBIDDEN_RATE.search(text) is not None


def exceeds_rate_alone(failure: UpstreamFailure) -> bool:
    """Return whether the request alone exceeds a rate limit, so that it fails at any time."""
    return _TOO_LARGE.search(failure.stated_text) is not None


def is_long_limit(failure: UpstreamFailure) -> bool:
    """Return whether the exceeded limit is one of a day or longer."""
    return _LONG_LIMIT.search(_get_text(failure)) is not None


# Texts of OpenAI, Google and DashScope, which also have status 400.
_BAD_KEY = _pattern(
    r"(incorrect|invalid)[ _]?api[ _]?key|api[ _]?key[ _](is )?(not valid|invalid|expired)"
)
# Other servers refuse regions, plans and models with 403.
_ABOUT_KEY = _pattern(
    r"api[ _-]?key|\bkeys?\b|credential|unauthori[sz]ed|authenticat"
    r"|token (is )?(invalid|expired)|(access|bearer|auth|invalid|expired)[ _]token"
)
# Places and addresses (OpenAI, Google, Cloudflare), which another key does not change.
_ABOUT_LOCATION = _pattern(
    r"\b(?:country|countries|region|territory|location|ip[ _-]address|ip[ _]not[ _]authorized)"
    r"|unsupported_country|not available in your|geo-?block|cloudflare|\bwaf\b"
)


def is_rejected_key(failure: UpstreamFailure) -> bool:
    """Return whether an upstream rejected the API key, or the request without one."""
    if failure.status in (401, 403):
        return True
    return failure.status == 400 and _BAD_KEY.search(_get_text(failure)) is not None


def names_key(failure: UpstreamFailure) -> bool:
    """Return whether an error is about a key or another credential."""
    return _ABOUT_KEY.search(_get_text(failure)) is not None


def is_about_location(failure: UpstreamFailure) -> bool:
    """Return whether an upstream refuses the place from which the proxy sends requests."""
    return _ABOUT_LOCATION.search(_get_text(failure)) is not None


# Codes of content that an upstream refuses: OpenAI (`misalignment_policy_violation`, `bio_policy`,
# `cyber_policy`, `content_policy_violation`), Azure (`content_filter`), DashScope
# (`DataInspectionFailed`) and gateways. New codes follow these forms.
_POLICY_CODES = _pattern(
    r"[a-z]_?policy(?:_?violation)?\b|content_?filter|moderation|data_?inspection|\bsafety"
    r"|guardrail|prohibited_content|sensitive_content"
)
# Texts with status 403 without such a code, of OpenRouter and of gateways.
_POLICY_TEXT = _pattern(
    r"moderation|\bflagged\b|(?:content|usage|acceptable use|safety) polic(?:y|ies)"
    r"|safety (?:system|filter|check)|违规|敏感"
)
_ABOUT_ACCOUNT = _pattern(
    r"(?:account|organi[sz]ation|\bkey|\buser|project|team|workspace)\b.{0,60}"
    r"(?:suspended|deactivated|disabled|banned|terminated|blocked|flagged|restricted|revoked)"
)


def has_policy_code(failure: UpstreamFailure) -> bool:
    """Return whether the code of an error shows that an upstream refuses the content."""
    return _POLICY_CODES.search(failure.codes) is not None


def is_policy_violation(failure: UpstreamFailure) -> bool:
    """Return whether an upstream refuses the content of the request."""
    if has_policy_code(failure):
        return True
    text = failure.stated_text
    return _POLICY_TEXT.search(text) is not None and _ABOUT_ACCOUNT.search(text) is None


_UNKNOWN_MODEL_CODES = _pattern(
    # OpenAI and others; GitHub Copilot and Hugging Face; Groq; GitHub Models; DashScope; Azure.
    r"model_?not_?found|model_not_supported|model_decommissioned|unknown_model|model_not_exist"
    r"|deployment_?not_?found|model_not_available|invalid_model(?:_name|_id)?\b"
    # SiliconFlow and Zhipu.
    r"|(?<!\d)(?:20012|1211)(?!\d)"
)
_MODEL_NAME = r"(?:\"[^\"]{0,200}\"|'[^']{0,200}'|`[^`]{0,200}`|[\w./:@+-]{1,200})"
_UNKNOWN_MODEL = _pattern(
    # DeepSeek ("Model Not Exist"), OpenAI, xAI, Cerebras, SiliconFlow.
    rf"\bmodel(?: or endpoint)?,? (?:{_MODEL_NAME} )?(?:(?:does|do|did) ?n[o']t|not) exist"
    # OpenRouter, Amazon Bedrock, LiteLLM, Mistral, MiniMax and GitHub Models.
    r"|not a valid model|model identifier is invalid"
    r"|invalid model(?: (?:name|id|identifier)\b| ?[:='\"`(])"
    r"|\b(?:unknown|unrecognized|no such|nonexistent) model\b"
    # Ollama, Google, Together, Fireworks, Cohere; Moonshot.
    rf"|\bmodels?[/ ](?:{_MODEL_NAME},? )?(?:is |was |could )?not (?:be )?found"
    r"|not found the model"
    # Groq, Copilot, Hugging Face, Codex, and keys with a list of models.
    rf"|\bmodel (?:{_MODEL_NAME} )?(?:is|was|has been) (?:decommissioned|retired|deprecated and"
    r"|no longer (?:available|supported)|not (?:available|supported|accessible|enabled"
    r"|allowed|permitted) (?:for (?:this|your)|by any|when using|on this|in this|to (?:this|your)))"
    rf"|requested model (?:{_MODEL_NAME} )?is not (?:supported|available)(?! (?:for|with|by the))"
    r"|not have access to (?:the |this )?model|access to model .{0,200} denied"
    r"|模型.{0,60}不存在|不存在.{0,20}模型"
)


def is_unknown_model(failure: UpstreamFailure) -> bool:
    """Return whether the upstream does not have the model, or not for this key."""
    if _UNKNOWN_MODEL_CODES.search(failure.codes):
        return True
    return _UNKNOWN_MODEL.search(failure.stated_text) is not None


# A failure behind a gateway, which reports it as an error of the request: `Error from provider
# (Console Go): Upstream request failed` (ENTERPILOT/GoModel#605). Not `Upstream rejected tools`.
_GATEWAY_FAILURE = _pattern(
    r"upstream (?:\w{1,20} ){0,3}?(?:failed|failure|error|unavailable|timed? ?out)\b"
    r"(?! from|:| with status 4)"
    r"|bad gateway|gateway time-?out|error connecting to (?:the )?(?:upstream|provider|backend)"
    r"|(?:failed|unable) to (?:connect|reach) (?:to )?(?:the )?(?:upstream|provider|backend)"
    # new-api, one-api and LiteLLM; Node's and Go's errors of connections.
    r"|no (?:available|healthy) (?:channel|provider|upstream|account|deployment)s?\b"
    r"|all (?:providers|upstreams|channels|accounts) (?:have )?failed|do_request_failed"
    r"|无可用渠道|fetch failed|socket hang up|\bECONN(?:REFUSED|RESET|ABORTED)\b|\bETIMEDOUT\b"
    r"|connection (?:refused|reset by peer)"
)


def is_gateway_failure(failure: UpstreamFailure) -> bool:
    """Return whether a server behind a gateway failed, and not the request."""
    return _GATEWAY_FAILURE.search(_get_text(failure)) is not None


_IMAGE_STATUSES = frozenset({400, 404, 415, 422, 500, 501})
# Refused images, in words that are about nothing else.
_REFUSED_IMAGE = _pattern(
    r"image input is not supported|not a multimodal model|support (image|vision)"
    r"|invalid[ _]image|image_url.{0,60}(not|only) supported|unknown variant `image_url`"
    r"|image.{0,40}(could not|cannot|can't|unable to|failed to) be?"
    r" ?(process|decode|load|read)"
    r"|(could not|cannot|can't|unable to|failed to)"
    r" (process|decode|load|read|parse|download).{0,20}image"
    r"|mmproj|does not support vision"
)
# For a request with an image: any word for images, and texts that require text as content.
_IMAGE_WORDS = _pattern(
    r"\bimages?\b|image_url|input_image|\bvision\b|multi-?modal|\bvlms?\b|图片|图像|多模态|视觉"
    # Azure's Llama and Cerebras (pydantic): `body.messages.0.user.content.0.type: Input should be
    # 'text'`; GLM; DeepSeek, vLLM and OpenAI's older servers.
    r"|type\W.{0,60}(?:should be|must be|取值范围).{0,8}['\"]text['\"]"
    r"|content\b.{0,60}(?:must be|should be|expected|to be) (?:a |an )?(?:valid )?(?:string|text)\b"
    r"|(?:only|supports?) text(?:-only)? (?:content|input|messages?|parts?)|\btext-only\b"
)
# Other parts of the request whose errors may contain the word, such as a tool `view_image`, and
# failures of the server (`multimodal encoder: CUDA out of memory`).
_NOT_ABOUT_CONTENT = _pattern(
    r"\btools?\b[\W_]|\bfunctions?\b|\bschema\b|tool_(?:calls?|choice)|out of memory|\bcuda\b"
    r"|internal (?:server )?error|time-?d? ?out"
    # Another form of a message without an image: `content` is null, or a text is an object.
    r"|\bnull\b|\bnone\b|\.text\b"
)
# The words of a refusal, in an error with the status of a failure.
_REFUSES = _pattern(
    r"not (?:support|allow|enabl|accept|permit)|n't (?:support|accept)|unsupported|invalid|不支持"
)


def is_refused_image(failure: UpstreamFailure) -> bool:
    """Return whether the words of an error show that an upstream refuses an image."""
    if failure.status not in _IMAGE_STATUSES:
        return False
    return _REFUSED_IMAGE.search(_get_text(failure)) is not None


def may_be_refused_image(failure: UpstreamFailure) -> bool:
    """Return whether an error of a request with an image is probably about the image."""
    if not failure.has_image or failure.status not in _IMAGE_STATUSES:
        return False
    text = _get_text(failure)
    if _IMAGE_WORDS.search(text) is None or _NOT_ABOUT_CONTENT.search(text):
        return False
    return failure.status < 500 or _REFUSES.search(text) is not None
