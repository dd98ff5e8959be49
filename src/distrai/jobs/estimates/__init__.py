"""What a job will take: hours, money, memory."""
