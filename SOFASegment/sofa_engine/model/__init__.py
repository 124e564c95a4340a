"""The network: LiteMedSAM's parts, sub-region-aware modality attention, and what joins them."""
