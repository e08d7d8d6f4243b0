"""What an answer must look like: a user's JSON Schema or Pydantic model, and what follows from it.

loading     a file, a model or a ready schema -> AnswerSchema
tree        the schema as a small tree of nodes; says what cannot be used, and where
translation the schema as the API takes it
arrow       the type of the column `result`
answers     an answer's text -> a value that keeps the user's schema, or the reasons why not
boxes       boxes in pixels of the sent image -> pixels of the original; where each value was read
references  every part of a schema looked at before the first call
enforcing   the user's schema as a validator whose work is bounded
"""

from tasks.schemas.answers import AnswerSchema, Fitted
from tasks.schemas.loading import classification_schema, load_schema

__all__ = ["AnswerSchema", "Fitted", "classification_schema", "load_schema"]
