"""Errors as the API server tells them: metav1.Status bodies with reason, details and field causes.

Every refusal in this package is a `StatusError`; the HTTP shell writes its body and nothing else. Reasons,
codes and wording follow k8s.io/apimachinery `api/errors` and `util/validation/field`, because clients read
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from isthmus.errors import IsthmusError


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong: machine-readable reason, text for people, and the field's path."""

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def show(value: object) -> str:
    """The value as error messages quote it: JSON, strings in double quotes."""
    return msgspec.json.encode(value).decode()


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def invalid_value(field: str, value: object, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {show(value)}: {detail}", field)


def wrong_type(field: str, value: object, wanted: str, given: str) -> Cause:
    del value
    text = f'Invalid value: "{given}": {field} in body must be of type {wanted}: "{given}"'
    return Cause("FieldValueTypeInvalid", text, field)


def unsupported(field: str, value: object, supported: Iterable[object]) -> Cause:
    values = ", ".join(show(each) for each in supported)
    return Cause(
        "FieldValueNotSupported", f"Unsupported value: {show(value)}: supported values: {values}", field
    )


def duplicate(field: str, value: object) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {show(value)}", field)


def forbidden_field(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def too_long(field: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def too_many(field: str, count: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {limit} items", field)


class StatusError(IsthmusError):
    """A request that is answered with a Status: HTTP code, reason, message, details, seconds to wait."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after
        if retry_after is not None:
            self.details["retryAfterSeconds"] = retry_after

    def object(self) -> dict[str, Any]:
        """The metav1.Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(group: str, plural: str, name: str) -> dict[str, Any]:
    details = {"name": name, "group": group, "kind": plural}
    return {key: value for key, value in details.items() if value}


def _qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> StatusError:
    message = f'{_qualified(group, plural)} "{name}" not found'
    return StatusError(404, "NotFound", message, details=_details(group, plural, name))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str) -> StatusError:
    message = f'{_qualified(group, plural)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, details=_details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return StatusError(409, "Conflict", message, details=_details(group, plural, name))


def modified(group: str, plural: str, name: str) -> StatusError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(group, plural, name, why)


def forbidden(group: str, plural: str, name: str, why: str, causes: Sequence[Cause] = ()) -> StatusError:
    details = _details(group, plural, name)
    if causes:
        details["causes"] = _causes(causes)
    subject = f'{_qualified(group, plural)} "{name}"' if name else _qualified(group, plural)
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", details=details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """422 for an object whose content is wrong, with one cause for each field."""
    text = str(causes[0]) if len(causes) == 1 else "[" + ", ".join(map(str, causes)) + "]"
    message = f'{_qualified(group, kind)} "{name}" is invalid: {text}'
    details = _details(group, kind, name)
    details["causes"] = _causes(causes)
    return StatusError(422, "Invalid", message, details=details)


def internal_error(message: str) -> StatusError:
    """500: the server cannot do what it should."""
    details = {"causes": [{"message": message}]}
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", details=details)


def expired(message: str) -> StatusError:
    """410: the revision a list or watch asked for is no longer kept."""
    return StatusError(410, "Expired", message)


def revision_too_large(asked: int, current: int) -> StatusError:
    message = f"Too large resource version: {asked}, current: {current}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return StatusError(504, "Timeout", message, details={"causes": causes}, retry_after=1)


def method_not_allowed() -> StatusError:
    return StatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def unsupported_media(accepted: Iterable[str]) -> StatusError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return StatusError(415, "UnsupportedMediaType", message + ", ".join(accepted))


def apply_conflict(causes: Sequence[Cause]) -> StatusError:
    """409 of server-side apply: fields that another manager owns with another value, manager by manager."""
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        lines: list[str] = []
        for message, group in groupby(causes, key=lambda each: each.message):
            lines.append(message.replace("conflict with", "conflicts with", 1) + ":")
            lines += [f"- {each.field}" for each in group]
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return StatusError(409, "Conflict", text, details={"causes": _causes(causes)})


def _causes(causes: Sequence[Cause]) -> list[dict[str, str]]:
    return [{"reason": each.reason, "message": each.message, "field": each.field} for each in causes]
