"""The Parquet tables a run leaves behind: explicit schemas, never inferred from data.

`results` has one row per page of every listed image, `calls` one per API call (the ledger), `costs` one per model,
endpoint, preset and tier, `runs` one per run. Money is `decimal128(18, 9)` US dollars, times are UTC. The job is the
folder's key alone: a column `job` beside `job=NAME` would be another type than readers give the key, and not merge.
"""

import pyarrow as pa

USD = pa.decimal128(18, 9)
TIME = pa.timestamp("us", tz="UTC")

STATUSES = ("ok", "unreadable", "rejected", "refused", "truncated", "invalid", "unavailable", "unasked")

TOKEN_COLUMNS = [
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("cache_read_tokens", pa.int64()),
    ("cache_write_tokens", pa.int64()),
]

RESULTS = pa.schema(
    [
        ("image", pa.string()),
        ("page", pa.int32()),  # 1 for the first
        ("name", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_modified", TIME),
        ("source_etag", pa.string()),
        ("source_format", pa.string()),
        ("source_width", pa.int32()),  # after EXIF orientation
        ("source_height", pa.int32()),
        ("sent_sha256", pa.string()),
        ("sent_media_type", pa.string()),
        ("sent_bytes", pa.int64()),
        ("sent_width", pa.int32()),
        ("sent_height", pa.int32()),
        ("sent_scale_x", pa.float64()),  # sent = source * scale + offset
        ("sent_scale_y", pa.float64()),
        ("sent_offset_x", pa.float64()),
        ("sent_offset_y", pa.float64()),
        ("note", pa.string()),  # what was left out, such as "first of 12 frames"
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error", pa.string()),
        ("answer", pa.string()),
        ("model", pa.string()),
        ("model_answered", pa.string()),
        ("endpoint", pa.string()),
        ("preset", pa.string()),
        ("prompt_sha256", pa.string()),
        ("step", pa.int32()),  # 0 = first prompt, 1.. = fallbacks
        ("attempts", pa.int32()),  # calls this run made for the row
        ("cached", pa.bool_()),
        ("duplicate_of", pa.string()),
        ("request_id", pa.string()),
        ("stop_reason", pa.string()),
        *TOKEN_COLUMNS,
        ("cost_usd", USD),  # what this run paid for the row, every attempt counted
        ("latency_ms", pa.int64()),
        ("answered_at", TIME),
        ("run_id", pa.string()),
    ]
)

CALLS = pa.schema(
    [
        ("call", pa.int64()),  # 1 for the run's first
        ("image", pa.string()),
        ("page", pa.int32()),
        ("sent_sha256", pa.string()),
        ("attempt", pa.int32()),  # 1 for the first call of a step
        ("step", pa.int32()),  # as in `results`; -1 = a second reading
        ("outcome", pa.string()),  # answered, refused, truncated, rejected, throttled, overloaded, failed, unknown
        ("paid", pa.string()),  # yes, no, maybe (sent, no answer seen)
        ("http_status", pa.int32()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("retry_after_s", pa.float64()),
        ("model", pa.string()),
        ("model_answered", pa.string()),
        ("endpoint", pa.string()),
        ("preset", pa.string()),
        ("tier", pa.string()),  # standard, batch
        ("max_tokens", pa.int32()),
        ("stop_reason", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("thinking_tokens", pa.int64()),  # part of output_tokens
        ("cache_read_tokens", pa.int64()),
        ("cache_write_tokens", pa.int64()),
        ("cache_write_5m_tokens", pa.int64()),
        ("cache_write_1h_tokens", pa.int64()),
        ("inference_geo", pa.string()),
        ("cost_usd", USD),
        ("at_most_usd", USD),  # what a call that was maybe paid can have cost; null for others
        ("started_at", TIME),
        ("latency_ms", pa.int64()),
        ("request_id", pa.string()),
        ("run_id", pa.string()),
    ]
)

COSTS = pa.schema(
    [
        ("model", pa.string()),
        ("endpoint", pa.string()),
        ("preset", pa.string()),
        ("tier", pa.string()),
        ("calls", pa.int64()),
        ("calls_maybe_paid", pa.int64()),
        ("images", pa.int64()),
        *TOKEN_COLUMNS,
        ("cost_usd", USD),
        ("cost_cny", USD),
        ("cny_per_usd", USD),
        ("saved_kept_usd", USD),  # answers kept from earlier runs, at what they had cost
        ("saved_duplicates_usd", USD),
        ("saved_caching_usd", USD),
        ("saved_batch_usd", USD),
        ("price_source", pa.string()),
        ("price_checked", pa.date32()),
        ("simulated", pa.bool_()),
        ("run_id", pa.string()),
    ]
)

RUNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("status", pa.string()),  # completed, completed_with_failures, paused, waiting, stopped, interrupted
        ("message", pa.string()),
        ("source", pa.string()),
        ("output", pa.string()),
        ("settings", pa.string()),  # the job as run, JSON, without any secret
        ("simulated", pa.bool_()),
        ("started_at", TIME),
        ("finished_at", TIME),
        ("seconds", pa.float64()),
        ("images", pa.int64()),
        ("rows", pa.int64()),
        *[(status, pa.int64()) for status in STATUSES],
        ("cached", pa.int64()),
        ("duplicates", pa.int64()),
        ("calls", pa.int64()),
        ("batches", pa.int64()),  # Message Batches that the run submitted or collected
        ("batch_requests", pa.int64()),
        *TOKEN_COLUMNS,
        ("cost_usd", USD),
        ("cost_cny", USD),
        ("versions", pa.string()),  # JSON: visionflow, prefect, anthropic, pillow, pyarrow, python
    ]
)

# Where on the image a value stands: pixels of the original, as boxes of a schema are.
BOX = pa.struct([("page", pa.int32()), *((side, pa.float64()) for side in ("left", "top", "right", "bottom"))])


def answer_columns(result_type: pa.DataType) -> list[pa.Field]:
    """The columns of a run with a schema: the typed answer, and what a second reading and evidence say of its fields.

    All stand in every such run, null where they are not asked for, so that a job keeps one Arrow schema.
    """
    names = [field.name for field in result_type] if pa.types.is_struct(result_type) else []
    names = names or ["value"]
    return [
        pa.field("result", result_type),
        pa.field("agreement", pa.struct([(name, pa.float64()) for name in names])),  # 0 to 1
        pa.field("needs_review", pa.bool_()),
        pa.field("second_answer", pa.string()),  # raw text, for whoever has to decide
        pa.field("evidence", pa.struct([(name, BOX) for name in names])),
    ]


TABLES = {"results": RESULTS, "calls": CALLS, "costs": COSTS, "runs": RUNS}
