"""Which decoders the CPU executor's compiled stream runs; the reference executor runs the rest."""

from ridgeway.models.config import ModelConfig


def missing_in_cpu(config: ModelConfig) -> str | None:
    """What a model has that the CPU executor does not compute, for people; None if it runs the model."""
    has = {
        "norms by mean and variance": config.norm != "rms",
        "biases of norms": config.norm_bias,
        "gates on the residual": config.residual_gates,
        "GELU": config.activation != "silu",
        "an MLP without a gate": not config.gated_mlp,
        "a bias of the head": config.head_bias,
    }
    found = [what for what, present in has.items() if present]
    return ", ".join(found) or None
