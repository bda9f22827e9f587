"""Load models, format chats, and train quietly with transformers."""
