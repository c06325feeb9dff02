"""What the sections of a recipe are made of: a strict model, and kinds of values."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

ClassMapping = dict[str, Any]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class Settings(BaseModel):
    """One section: no other keys, no other types, no change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=False)
