"""What sources ask for: checked against their rights and the policy, and made into events."""
