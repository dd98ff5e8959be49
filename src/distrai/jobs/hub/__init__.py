"""The Hugging Face Hub: pushing, pulling, tokens, and what goes wrong there in one sentence each."""
