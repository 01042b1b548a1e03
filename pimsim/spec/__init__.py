"""Specs: what a device *is*, as frozen pydantic models. Nothing below the lowering knows them."""
