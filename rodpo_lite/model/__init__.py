"""The sequential recommender: item vectors, sequence encoder, scoring."""
