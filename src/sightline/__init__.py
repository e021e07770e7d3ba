"""sightline: post-train a vision-language model, and know whether it helped."""
