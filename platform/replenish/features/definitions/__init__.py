"""What a feature means: vocabulary, strict reader, ids, registry, recorded versions, catalogue. Computes nothing."""
