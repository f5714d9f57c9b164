"""emotion2vec+ (Ma et al., 2023): its published network, its weights, and batches of clips of any length."""
