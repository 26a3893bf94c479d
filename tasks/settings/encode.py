"""The settings of `encode`."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks.settings.base import Settings


class EncodeSettings(Settings):
    """The frozen image encoder whose spatial features the heads train on."""

    image_encoder: str = Field("tf_efficientnet_lite0", description="This timm model looks at the images.")
    image_size: int = Field(224, ge=32, description="Images are looked at with so many pixels a side.")
    fine_tune_size: int = Field(
        384, ge=0, description="The higher resolution has so many pixels a side; 0: none is stored."
    )
    views: int = Field(2, ge=1, le=4, description="So many views of a training image are stored.")
    crop_area: float = Field(0.6, gt=0, le=1, description="Views after the first keep at least this share of it.")
    train_at_fine_tune_size: bool = Field(False, description="Training images are stored at the higher resolution too.")
    annotator_encoders: tuple[str, ...] = Field(
        (),
        description="Further encoders, as in tf_efficientnet_lite2@260, look for the annotator: it has a model for "
        "each, and what they say is averaged. Each needs a size of its own, and the first encoder's "
        "width.",
    )

    def further(self) -> dict[int, str]:
        """Image size -> encoder of :attr:`annotator_encoders`."""
        pairs = [one.rpartition("@") for one in self.annotator_encoders]
        return {int(size): name for name, _, size in pairs}

    @model_validator(mode="after")
    def _sizes_differ(self) -> EncodeSettings:
        for one in self.annotator_encoders:
            name, _, size = one.rpartition("@")
            if not name or not size.isdigit() or int(size) < 32:
                raise ValueError(f"annotator_encoders: '{one}' should name an encoder and a size, as in NAME@260")
        own = {self.image_size, self.fine_tune_size}
        if len(own | set(self.further())) < len(own) + len(self.annotator_encoders):
            raise ValueError("annotator_encoders: every encoder needs an image size that no other has")
        return self
